"""How the browser app looks: Gradio's plainest theme in one blue, with the system's fonts; the rest is app.css."""

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
FONT_OF_CODE = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Noto Sans Mono", "monospace"]
# What stands around the tabs, which Gradio keeps out of the reach of app.css.
FRAME = """<style>
.gradio-container { padding: 0 !important; }
.gradio-container .main.fillable { max-width: 70rem; padding: 1rem; }
</style>"""


def app_theme() -> Base:
    """The theme, light and dark."""
    return Base(
        primary_hue=colors.blue,
        secondary_hue=colors.blue,
        neutral_hue=colors.slate,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        font=FONT,
        font_mono=FONT_OF_CODE,
    ).set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#14171c",
        body_text_color="#1b1f27",
        body_text_color_dark="#e7eaf0",
        body_text_color_subdued="#5b6472",
        body_text_color_subdued_dark="#9aa4b4",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#14171c",
        background_fill_secondary="#f4f5f7",
        background_fill_secondary_dark="#1e232b",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        border_color_primary="#d9dde4",
        border_color_primary_dark="#333b47",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1a1e25",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_border_color="#c3c9d3",
        input_border_color_dark="#3d4654",
        input_border_color_focus="#245cd6",
        input_border_color_focus_dark="#6ca0ff",
        input_shadow="none",
        input_placeholder_color="#77808e",
        input_placeholder_color_dark="#7f8998",
        button_primary_background_fill="#245cd6",
        button_primary_background_fill_dark="#3b74e8",
        button_primary_background_fill_hover="#1b4bb5",
        button_primary_background_fill_hover_dark="#5389f5",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#1e232b",
        button_secondary_background_fill_hover="#f4f5f7",
        button_secondary_background_fill_hover_dark="#2a313c",
        button_secondary_border_color="#c3c9d3",
        button_secondary_border_color_dark="#3d4654",
        button_large_padding="0.5rem 1rem",
        button_large_text_size="*text_md",
        button_large_text_weight="600",
        button_border_width="1px",
        button_border_width_dark="1px",
        slider_color="#245cd6",
        slider_color_dark="#6ca0ff",
        table_border_color="#d9dde4",
        table_border_color_dark="#333b47",
        table_even_background_fill="#ffffff",
        table_even_background_fill_dark="#14171c",
        table_odd_background_fill="#f4f5f7",
        table_odd_background_fill_dark="#1e232b",
        link_text_color="#245cd6",
        link_text_color_dark="#6ca0ff",
        layout_gap="16px",
    )
