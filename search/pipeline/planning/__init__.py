"""What a study is going to take: what is known of it, the plan, and whether a budget covers it."""
