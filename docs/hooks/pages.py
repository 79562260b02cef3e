"""Pages of the site that are files of the repository: they are written once.

README is the home page, and the notebooks appear as they were executed. Links
between such files lead to their pages, and links to other files to the
repository.
"""

import posixpath
import re
from collections.abc import Collection
from pathlib import Path

import nbconvert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/l2keras/l2keras/blob/main"

# Where a file of the repository is on the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    **{
        f"notebooks/{path.name}": f"notebooks/{path.stem}.md"
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    },
}

# The home page has no others beside it to list.
ALONE = "---\nhide: [navigation]\n---\n\n"

# The target of a link or of a picture, without its anchor. Code comes first,
# so that nothing in it is taken for a link.
CODE_OR_TARGET = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]*`)"
    r"|(?<=\]\()(?!https?:|mailto:|#)(?P<target>[^)#\s]+)",
    re.DOTALL | re.MULTILINE,
)

# A heading or a figure of a notebook. Code comes first, for its comments.
HEADING_OR_FIGURE = re.compile(
    r"^```.*?^```|^#+ (?P<heading>[^\n]*)$|(?P<figure>!\[png\])",
    re.DOTALL | re.MULTILINE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages to those that lie in `docs`."""
    for source, page in PAGES.items():
        if source.endswith(".ipynb"):
            text, figures = _executed(source)
            for name, content in figures.items():
                uri = posixpath.join(posixpath.dirname(page), name)
                files.append(File.generated(config, uri, content=content))
            text = _with_links_moved(text, source, page, own=figures)
        else:
            text = (ROOT / source).read_text(encoding="utf-8")
            text = _with_links_moved(text, source, page)
            if page == "index.md":
                text = f"{ALONE}{text}"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turns links out of `docs`, to what is no page, into links that hold."""
    uri = page.file.src_uri
    if uri in PAGES.values():
        return markdown
    return _with_links_moved(markdown, f"docs/{uri}", uri)


def _with_links_moved(
    text: str, source: str, page: str, own: Collection[str] = ()
) -> str:
    """Returns the text of a file of the repository as that of a page.

    Args:
        text: Markdown.
        source: The file, relative to the repository's root.
        page: The page, relative to the site's.
        own: Links that stay, to what lies beside the page.
    """

    def moved(match: re.Match[str]) -> str:
        link = match["target"]
        if link is None or link in own:
            return match[0]
        return _moved(link, source, page)

    return CODE_OR_TARGET.sub(moved, text)


def _moved(link: str, source: str, page: str) -> str:
    """Returns a link between files of the repository as one of the site."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if not (ROOT / path).exists():
        raise FileNotFoundError(
            f"A link must lead to a file. Received: {link} in {source}"
        )
    if path in PAGES:
        target = PAGES[path]
    elif path.startswith("docs/"):
        target = path.removeprefix("docs/")
    else:
        return f"{REPOSITORY}/{path}"
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _executed(source: str) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as Markdown, and the figures in it by name."""
    stem = Path(source).stem
    exporter = nbconvert.MarkdownExporter(
        # What a cell prints line by line is one output.
        preprocessors=[CoalesceStreamsPreprocessor],
    )
    text, resources = exporter.from_filename(
        str(ROOT / source),
        resources={"output_files_dir": stem, "unique_key": "figure"},
    )
    text = _with_alternatives(text)
    text += (
        f"\n---\n[The notebook]({REPOSITORY}/{source}) as it was executed.\n"
    )
    return text, resources["outputs"]


def _with_alternatives(text: str) -> str:
    """A notebook whose figures have their section as alternative text."""
    heading = ""

    def named(match: re.Match[str]) -> str:
        nonlocal heading
        heading = match["heading"] or heading
        return f"![Figure: {heading}]" if match["figure"] else match[0]

    return HEADING_OR_FIGURE.sub(named, text)
