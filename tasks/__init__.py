"""
The steps: thin tasks that read, call, validate and write. Their logs and our library's, from level INFO, appear in each
run's log.
"""

import logging

logging.getLogger("alphapivot").setLevel(logging.INFO)
