"""Look at attention: heat maps, maps of heads, coloured documents, pictures during training.

Arrays and strings go in; figures of matplotlib, PNG and HTML come out. Matplotlib is the extra
`pip install 'keras-attention-seq2seq[visualize]'`, and loaded when a picture is drawn.
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
