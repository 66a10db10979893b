"""From records to tables: rows, columns, one engine of tests and ranks, verdicts. No torch.

In come records and their scores per image; out come tables, which ``harness.report`` writes in every format.
"""
