"""One actor per active group: its inbox, its subscribers, its cached state."""
