from simsong.api import SongRows as SongRows
from simsong.api import Songs as Songs
from simsong.api import connect as connect
from simsong.api import open as open

__version__: str
