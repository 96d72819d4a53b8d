#!/usr/bin/env bash
# Prints the first Python that can make Headwater's environment: 3.11 or later, with venv and pip.
# Exit status 1 if there is none. HEADWATER_PYTHON names one to prefer.
set -euo pipefail

needs='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
for candidate in "${HEADWATER_PYTHON:-python3}" /usr/bin/python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$needs" 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
exit 1
