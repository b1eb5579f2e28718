#!/bin/bash
# The driver of a campaign as a SLURM job; workers get jobs of their own from the profile NAME.
# Submit it again until it says that all is done: it goes on where the last one stopped.
#SBATCH --job-name=driver
#SBATCH --time=48:00:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --signal=TERM@120
source "$HOME/dftbparam/bin/activate"
exec dftbparam campaign resume campaign.toml --cluster NAME
