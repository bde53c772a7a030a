"""What mkdocs calls while it builds: pages that are made of the code's own sentences."""

from mkdocs.structure.files import File

from norface.config_reference import build_corpora, build_reference

LAYOUTS = "<!-- layouts -->"


def on_files(files, config):
    """Adds config.md to the files of docs/."""
    files.append(File.generated(config, "config.md", content=build_reference()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Puts the readers' layouts into corpora.md."""
    return markdown.replace(LAYOUTS, build_corpora()) if LAYOUTS in markdown else markdown
