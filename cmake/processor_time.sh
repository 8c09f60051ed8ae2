#!/bin/sh
# processor_time.sh COMPILER ARGUMENTS... -o OBJECT ...: compiles, and writes what `times` says then to OBJECT.times: the second line is the
# user and system time of the compiler. Other work on the machine does not lengthen it as it does the time on the clock.
"$@" || exit
for argument in "$@"; do
  [ "$before" != -o ] || times > "$argument.times"
  before=$argument
done
