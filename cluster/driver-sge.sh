#!/bin/bash
# The driver of a campaign as a Grid Engine job; workers get jobs of their own from the profile NAME.
# Submit it again until it says that all is done: it goes on where the last one stopped.
#$ -N driver
#$ -cwd
#$ -l h_rt=48:00:00
#$ -notify
# Two minutes' notice arrives as USR2; the driver ends in an orderly way on TERM.
source "$HOME/dftbparam/bin/activate"
dftbparam campaign resume campaign.toml --cluster NAME &
trap 'kill -TERM $!' USR2
wait $!
wait $!
