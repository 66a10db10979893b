"""Boards as files: Markdown to read, CSV to compute with; and whether files on disk are what the records say."""

from harness.report.files import check_boards, render_boards, write_boards

__all__ = ["check_boards", "render_boards", "write_boards"]
