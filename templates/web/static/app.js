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
  const said = document.getElementById(form.dataset.preview);
  let shown = document.getElementsByName(button.formTarget)[0];
  const empty = shown.cloneNode();
  let next = null, frames = 0, waiting = 0;
  const show = () => form.checkValidity() && form.requestSubmit(button);
  const warn = (event) => event.preventDefault();

  // Each in a frame of its own: the Back button would go through all that one frame has shown.
  form.addEventListener("submit", ({ submitter }) => {
    clearTimeout(waiting);
    if (!submitter?.formTarget) {
      removeEventListener("beforeunload", warn);
      return;
    }
    next?.remove();
    const frame = next = empty.cloneNode();
    submitter.formTarget = frame.name = `preview${++frames}`;
    frame.style.display = "none"; // the one before stands until this one is there
    shown.after(frame);
    frame.addEventListener("load", () => {
      shown.remove();
      shown = frame;
      next = null;
      frame.style.display = "";
      // Said anew each time: the same words again would be read to nobody.
      said.textContent = said.dataset.done + (said.textContent === said.dataset.done ? "\u00a0" : "");
    }, { once: true });
  });
  form.addEventListener("input", () => {
    addEventListener("beforeunload", warn); // what is shown looks as if it were saved
    clearTimeout(waiting);
    waiting = setTimeout(show, 500);
  });
  new IntersectionObserver(([seen], watcher) => {
    if (!seen.isIntersecting) return;
    watcher.disconnect();
    show();
  }).observe(shown);
}
