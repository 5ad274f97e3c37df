"""What people and tools read: progress, plan, leaderboard, summary, output files."""
