from simsong.api import SongRows as SongRows
from simsong.api import Songs as Songs
from simsong.api import connect as connect
from simsong.api import open as open
from simsong.search.song_query import SongFilters as SongFilters
from simsong.search.song_query import SongQuery as SongQuery

__version__: str
