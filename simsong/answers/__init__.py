"""What a store answers to listeners: songs like others, why they are, playlists."""
