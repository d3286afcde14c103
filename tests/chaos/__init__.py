"""A real sender, killed at random moments, against a sink that writes down what it accepts.

    python -m tests.chaos --kills 200

`campaign` starts, kills and restarts, `sender` is the process that dies, `sink` the mail server,
`record` what the sink wrote, `verdict` the judgement: by address and slot, and by address and
paper, from the sink's record and never by Message-ID.
"""
