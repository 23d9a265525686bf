#!/bin/sh
# Stands for an interpreter in a made-up machine (tests/test_setup.py, which fills in the names
# between @ signs). Answers what requirements/setup.sh asks; its virtual environments are fakes too.
echo "python@version@ $*" >> "@log@"
case "$1 $2" in
"-c "*) echo "@version@" ;;
"requirements/check_build.py "*) echo "@lacking@" ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "@uv@" "$3/bin/uv" ;;
"-m pip") [ "$3" != config ] || cat "@pip_settings@" ;;
esac
