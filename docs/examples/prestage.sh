#!/bin/sh
# Brings the data of a batch job back from tape before the job begins.
#
#   prestage.sh LIST [TIME]
#
# LIST names the paths that the job reads, one a line. Ends well when all of them are online, so that
# a job that depends on it need not occupy a node while tape is being read:
#
#   first=$(sbatch --parsable --cpus-per-task=1 prestage.sh paths.txt 24h)
#   sbatch --dependency=afterok:$first analysis.sh
#
# In a Slurm prolog, or at the head of the job itself, it does the same, and a job whose data do not
# come fails at once instead of after hours.
set -u

list=$1
time=${2:-24h}

icatfs stage --wait --timeout "$time" --yes --from-file "$list"
code=$?

case $code in
    0)  echo "prestage: all data are online" ;;
    20) echo "prestage: some data are missing; what failed is named above" >&2 ;;
    21) echo "prestage: none of the data came" >&2 ;;
    22) echo "prestage: not all data came within $time; they still come: submit again later" >&2 ;;
    *)  echo "prestage: icatfs stage ended with code $code; is the facility mounted here?" >&2 ;;
esac
exit $code
