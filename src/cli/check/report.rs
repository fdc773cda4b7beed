//! What was found, and how it is shown.

use serde::Serialize;

use crate::cli::show;

/// The page that explains each category.
const PAGE: &str = "docs/reference/cli.md";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Failed,
}

impl Level {
    fn mark(self) -> char {
        match self {
            Self::Ok => '√',
            Self::Warning => '‼',
            Self::Failed => '×',
        }
    }

    fn color(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Failed => "\x1b[31m",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    category: &'static str,
    name: String,
    result: Level,
    said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
}

impl Finding {
    pub(super) fn hint(&mut self, hint: &str) {
        self.hint = Some(hint.to_owned());
    }
}

/// Everything that was looked at, in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    checks: Vec<Finding>,
    #[serde(skip)]
    hopeless: bool,
}

impl Report {
    pub(super) fn pass(&mut self, category: &'static str, name: &str, said: &str) {
        self.add(category, name, Level::Ok, said);
    }

    pub(super) fn warn(&mut self, category: &'static str, name: &str, said: &str) -> &mut Finding {
        self.add(category, name, Level::Warning, said)
    }

    pub(super) fn fail(&mut self, category: &'static str, name: &str, said: &str) -> &mut Finding {
        self.add(category, name, Level::Failed, said)
    }

    fn add(
        &mut self,
        category: &'static str,
        name: &str,
        result: Level,
        said: &str,
    ) -> &mut Finding {
        let docs = (result != Level::Ok).then(|| format!("{PAGE}#check-{category}"));
        let said = said
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let name = name.to_owned();
        self.checks.push(Finding {
            category,
            name,
            result,
            said,
            hint: None,
            docs,
        });
        let last = self.checks.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "one was just pushed")]
        &mut self.checks[last]
    }

    /// Looking again will not help: somebody has to do something first.
    pub(super) fn give_up(&mut self) {
        self.hopeless = true;
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    pub(super) fn failures(&self) -> usize {
        self.checks
            .iter()
            .filter(|check| check.result == Level::Failed)
            .count()
    }

    /// Categories with √ ‼ ×, and a hint below what is not well.
    pub(super) fn table(&self, colored: bool) -> String {
        let mut text = String::new();
        let mut category = "";
        for check in &self.checks {
            if check.category != category {
                category = check.category;
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!(
                    "{gap}{category}\n{}\n",
                    "-".repeat(category.len())
                ));
            }
            let (color, off) = if colored {
                (check.result.color(), "\x1b[0m")
            } else {
                ("", "")
            };
            let mark = check.result.mark();
            text.push_str(&format!(
                "{color}{mark}{off} {}: {}\n",
                check.name, check.said
            ));
            for line in check
                .hint
                .iter()
                .chain(check.docs.as_ref().map(|d| format!("see {d}")).iter())
            {
                text.push_str(&format!("    {line}\n"));
            }
        }
        let count = |level| {
            self.checks
                .iter()
                .filter(|check| check.result == level)
                .count()
        };
        let (warnings, failures) = (count(Level::Warning), count(Level::Failed));
        let status = match (failures, warnings) {
            (0, 0) => "all is well".to_owned(),
            (0, warnings) => format!("it works, with {}", show::count(warnings, "warning")),
            (failures, warnings) => format!(
                "{}, {}",
                show::count(failures, "failure"),
                show::count(warnings, "warning")
            ),
        };
        text.push_str(&format!("\n{status}\n"));
        text
    }

    /// One line for each thing that is not well.
    pub(super) fn short(&self) -> String {
        self.checks
            .iter()
            .filter(|check| check.result != Level::Ok)
            .map(|c| {
                format!(
                    "{} {} {}: {}\n",
                    c.result.mark(),
                    c.category,
                    c.name,
                    c.said
                )
            })
            .collect()
    }
}
