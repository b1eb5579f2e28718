"""Campaigns: propose, evaluate, store, again. Import `dftbparam.campaign.run` for the loop."""
