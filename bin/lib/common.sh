# Shell helpers of the commands in bin/. Source it after setting PROJECT to the checkout's root.

# The project wants Python 3.11 or newer; its own virtual environment comes first where it is there.
find_python() {
  for candidate in "$PROJECT/.venv/bin/python" python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "${0##*/}: needs Python 3.11 or newer, and none was found" >&2
  echo "  mend: sudo apt-get install python3 python3-venv" >&2
  return 1
}
