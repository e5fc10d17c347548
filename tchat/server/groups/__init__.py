"""Groups while they are active: one actor each, with its inbox, subscriptions and cached state."""
