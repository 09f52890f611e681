"""The looks of the browser app: Gradio's base theme with one accent color and system fonts; the rest is in app.css."""

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONOSPACE_FONT = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Noto Sans Mono", "monospace"]
# Styles of the elements around the tabs, which Gradio's scoping keeps out of the reach of app.css.
PAGE_STYLE = """<style>
.gradio-container { padding: 0 !important; }
.gradio-container .main.fillable { max-width: 70rem; padding: 1rem; }
</style>"""
# Theme variable -> its value in light and in dark mode.
COLORS = {
    "body_background_fill": ("#ffffff", "#14171c"),
    "body_text_color": ("#1b1f27", "#e7eaf0"),
    "body_text_color_subdued": ("#5b6472", "#9aa4b4"),
    "background_fill_primary": ("#ffffff", "#14171c"),
    "background_fill_secondary": ("#f4f5f7", "#1e232b"),
    "block_background_fill": ("transparent", "transparent"),
    "block_border_width": ("0px", "0px"),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_title_text_color": ("*body_text_color", "*body_text_color"),
    "block_info_text_color": ("*body_text_color_subdued", "*body_text_color_subdued"),
    "border_color_primary": ("#d9dde4", "#333b47"),
    "input_background_fill": ("#ffffff", "#1a1e25"),
    "input_border_width": ("1px", "1px"),
    "input_border_color": ("#c3c9d3", "#3d4654"),
    "input_border_color_focus": ("#245cd6", "#6ca0ff"),
    "input_placeholder_color": ("#666f7d", "#8a94a3"),
    "button_primary_background_fill": ("#245cd6", "#2f66d8"),
    "button_primary_background_fill_hover": ("#1b4bb5", "#3a70e0"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
    "button_secondary_background_fill": ("#ffffff", "#1e232b"),
    "button_secondary_background_fill_hover": ("#f4f5f7", "#2a313c"),
    "button_secondary_border_color": ("#c3c9d3", "#3d4654"),
    "button_border_width": ("1px", "1px"),
    "slider_color": ("#245cd6", "#6ca0ff"),
    "link_text_color": ("#245cd6", "#6ca0ff"),
    "table_border_color": ("#d9dde4", "#333b47"),
    "table_even_background_fill": ("#ffffff", "#14171c"),
    "table_odd_background_fill": ("#f4f5f7", "#1e232b"),
}
SIZES = {
    "color_accent": "#245cd6",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_title_text_weight": "600",
    "block_title_text_size": "*text_sm",
    "input_shadow": "none",
    "button_large_padding": "0.5rem 1rem",
    "button_large_text_size": "*text_md",
    "button_large_text_weight": "600",
    "layout_gap": "16px",
}


def app_theme() -> Base:
    """The theme, with a light and a dark mode."""
    light = {name: value for name, (value, _) in COLORS.items()}
    dark = {f"{name}_dark": value for name, (_, value) in COLORS.items()}
    theme = Base(
        primary_hue=colors.blue,
        secondary_hue=colors.blue,
        neutral_hue=colors.slate,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        font=FONT,
        font_mono=MONOSPACE_FONT,
    )
    return theme.set(**light, **dark, **SIZES)
