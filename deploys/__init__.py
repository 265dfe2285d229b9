"""pyinfra deploys: what `pyinfra inventory/homelab.py deploys/site.py` and `mesh apply` run."""
