"""The order of things: collect, plan, deliver.

    sources --fetch--> records --identify, merge--> papers + signals        (collecting)
    papers --match, rank--> choice for a subscriber and slot --freeze--> digest  (planning)
    digest --compose--> message --SMTP--> result in the ledger              (delivering)

Each step is a function that takes what it needs and can be run alone, twice, or after a crash.
"""
