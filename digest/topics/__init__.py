"""The language of topics: what a word is, how a filter is written, and whether a paper matches."""
