/* What is nicer with a script; every page works without it. */
"use strict";

// The time zone that the browser knows, where the page only guesses.
for (const field of document.querySelectorAll("[data-zone]")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const known = !field.options || [...field.options].some((option) => option.value === zone);
  if (zone && known) field.value = zone;
}

// After how many seconds an address is sent: a very fast one is counted, and refused no more often.
for (const field of document.querySelectorAll("[name=after]")) {
  field.form.addEventListener("submit", () => { field.value = Math.floor(performance.now() / 1000); });
}

// The next digest beside the form: the same button that works without a script, pressed for you.
for (const form of document.querySelectorAll("form[data-preview]")) {
  const button = form.querySelector("[formtarget]");
  const frame = document.getElementsByName(button.formTarget)[0];
  const said = document.getElementById(form.dataset.preview);
  let waiting = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => form.checkValidity() && form.requestSubmit(button), 500);
  });
  // Said anew each time: the same words again would be read to nobody.
  frame.addEventListener("load", () => {
    said.textContent = said.dataset.done + (said.textContent === said.dataset.done ? "\u00a0" : "");
  });
}
