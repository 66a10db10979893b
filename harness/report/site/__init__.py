"""The page that people show to others: a static site of suites, from their records alone, that opens from disk.

In come leaderboards and the folders that their records lie in; out come files. Tables are those of the boards' engine;
templates print them, with every text escaped. No torch, no network, no text of a record run as code.
"""
