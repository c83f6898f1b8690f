"""What local music files hold beside their sound: tags, lyrics beside them; and what identifies the sound."""
