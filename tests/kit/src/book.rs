//! The pages of the documentation, as tests read them: everything below `docs/`, and the READMEs of the project and its chart.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the project's folder, such as `docs/why.md`.
    pub path: PathBuf,
    /// Its Markdown.
    pub text: String,
}

/// A fenced block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The words after the fence: the language first.
    pub info: Vec<String>,
    /// What is in it.
    pub text: String,
    /// What an invisible remark `<!-- not run: … -->` right before it says.
    pub excuse: Option<String>,
}

/// A heading with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// 1 for the page's title.
    pub level: u8,
    /// Its text, without marks.
    pub title: String,
}

/// All pages, by path.
///
/// # Errors
/// When one cannot be read.
pub fn pages(root: &Path) -> Result<Vec<Page>> {
    let mut files = vec![root.join("README.md"), root.join("charts/tenure/README.md")];
    markdown_below(&root.join("docs"), &mut files)?;
    files.sort();
    files.into_iter().map(|file| Page::read(root, &file)).collect()
}

fn markdown_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            markdown_below(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

impl Page {
    fn read(root: &Path, file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Self { path: file.strip_prefix(root)?.to_owned(), text })
    }

    fn events(&self) -> Parser<'_> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES)
    }

    /// Its blocks of code, in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut inside, mut excuse) = (false, None);
        for event in self.events() {
            match event {
                Event::Html(html) => {
                    let remark = html.trim().strip_prefix("<!-- not run: ");
                    excuse = remark.and_then(|remark| remark.strip_suffix(" -->")).map(str::to_owned);
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    inside = true;
                    let info = match &kind {
                        CodeBlockKind::Fenced(info) => words(info),
                        CodeBlockKind::Indented => Vec::new(),
                    };
                    blocks.push(Block { info, text: String::new(), excuse: excuse.take() });
                }
                Event::End(TagEnd::CodeBlock) => inside = false,
                Event::Text(text) if inside => {
                    if let Some(block) = blocks.last_mut() {
                        block.text.push_str(&text);
                    }
                }
                Event::Start(_) => excuse = None,
                _ => {}
            }
        }
        blocks
    }

    /// Its headings, in order.
    #[must_use]
    pub fn headings(&self) -> Vec<Heading> {
        let mut headings: Vec<Heading> = Vec::new();
        let mut inside = false;
        for event in self.events() {
            match event {
                Event::Start(Tag::Heading { level, .. }) => {
                    inside = true;
                    headings.push(Heading { level: number(level), title: String::new() });
                }
                Event::End(TagEnd::Heading(_)) => inside = false,
                Event::Text(text) | Event::Code(text) if inside => {
                    if let Some(heading) = headings.last_mut() {
                        heading.title.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        headings
    }

    /// What its links and pictures point to.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        self.events()
            .filter_map(|event| match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    Some(dest_url.into_string())
                }
                _ => None,
            })
            .collect()
    }

    /// What a link may name after `#`. Both GitHub and mdBook make the first heading of a title so; of the second they make
    /// different things, so that a page should not have one.
    #[must_use]
    pub fn anchors(&self) -> BTreeSet<String> {
        self.headings().iter().map(|heading| anchor(&heading.title)).collect()
    }

    /// What an invisible remark such as `<!-- set-up: … -->` says, word by word.
    #[must_use]
    pub fn remark(&self, name: &str) -> Vec<String> {
        let start = format!("<!-- {name}: ");
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(&start)?.strip_suffix(" -->"));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    }
}

fn words(info: &str) -> Vec<String> {
    info.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

/// A heading's anchor: lower-case, spaces as hyphens, without other marks.
#[must_use]
pub fn anchor(title: &str) -> String {
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# One, *two* `three`\n\n<!-- set-up: a.yaml b=c -->\n\n```sh,not-run\nls\ncd\n```\n\n[a](b.md#c) ![d](e.svg)\n\n| [f](g.md) |\n| --- |\n\n<!-- not run: it takes long -->\n```sh,not-run\ncp\n```\n";

    #[test]
    fn a_page_tells_its_parts() {
        let page = Page { path: PathBuf::new(), text: TEXT.to_owned() };
        assert_eq!(page.headings(), [Heading { level: 1, title: "One, two three".to_owned() }]);
        assert_eq!(page.anchors(), BTreeSet::from(["one-two-three".to_owned()]));
        assert_eq!(page.links(), ["b.md#c", "e.svg", "g.md"]);
        assert_eq!(page.remark("set-up"), ["a.yaml", "b=c"]);
        let block = |text: &str, excuse: Option<&str>| {
            let info = vec!["sh".to_owned(), "not-run".to_owned()];
            Block { info, text: text.to_owned(), excuse: excuse.map(str::to_owned) }
        };
        assert_eq!(page.blocks(), [block("ls\ncd\n", None), block("cp\n", Some("it takes long"))]);
    }
}
