"""The page that people show to others: a static site of suites, from their records alone, that opens from disk.

In come leaderboards and the folders of their records; out come files. Templates print what the engine makes. No torch.
"""
