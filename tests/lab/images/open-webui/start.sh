#!/usr/bin/env bash
# What the vendor's start.sh comes to where WEBUI_SECRET_KEY is set; without it Open WebUI itself refuses to start.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
exec python3 -m uvicorn open_webui.main:app --host "${HOST:-0.0.0.0}" --port "${PORT:-8080}" \
  --forwarded-allow-ips "${FORWARDED_ALLOW_IPS:-*}" --workers "${UVICORN_WORKERS:-1}"
