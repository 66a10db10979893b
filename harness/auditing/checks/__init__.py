"""The checks: functions from the laboratory to trials. The engine lists them."""
