"""RetroAct: the catalogue of retro games, and the ROMs that are on this machine."""
