#!/bin/bash
# The driver of a campaign as a PBS job; workers get jobs of their own from the profile NAME.
# Submit it again until it says that all is done: it goes on where the last one stopped.
#PBS -N driver
#PBS -l select=1:ncpus=1:mem=4gb
#PBS -l walltime=48:00:00
cd "$PBS_O_WORKDIR" || exit 1
source "$HOME/dftbparam/bin/activate"
exec dftbparam campaign resume campaign.toml --cluster NAME
