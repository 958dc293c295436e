"""Draw attention: heat maps, maps of heads, coloured documents, pictures during training.

The functions take arrays and strings, and return matplotlib figures, PNG or HTML. Matplotlib is the
extra `pip install 'keras-attention-seq2seq[visualize]'`, and imported when a picture is drawn.
"""

from keras_attention.visualize.callback import Alignment, AttentionMaps
from keras_attention.visualize.document import document_figure, document_html
from keras_attention.visualize.maps import head_maps, heat_map, heat_map_html, heat_map_table, save

__all__ = [
    "Alignment",
    "AttentionMaps",
    "document_figure",
    "document_html",
    "head_maps",
    "heat_map",
    "heat_map_html",
    "heat_map_table",
    "save",
]
