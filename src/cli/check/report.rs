//! What was found, and how it is shown.

use serde::Serialize;

use crate::cli::format;

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
    detail: String,
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
    is_final: bool,
}

impl Report {
    pub(super) fn pass(&mut self, category: &'static str, name: &str, detail: &str) {
        self.add(category, name, Level::Ok, detail);
    }

    pub(super) fn warn(
        &mut self,
        category: &'static str,
        name: &str,
        detail: &str,
    ) -> &mut Finding {
        self.add(category, name, Level::Warning, detail)
    }

    pub(super) fn fail(
        &mut self,
        category: &'static str,
        name: &str,
        detail: &str,
    ) -> &mut Finding {
        self.add(category, name, Level::Failed, detail)
    }

    fn add(
        &mut self,
        category: &'static str,
        name: &str,
        result: Level,
        detail: &str,
    ) -> &mut Finding {
        let docs = (result != Level::Ok).then(|| format!("{PAGE}#check-{category}"));
        let detail = detail
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let name = name.to_owned();
        self.checks.push(Finding {
            category,
            name,
            result,
            detail,
            hint: None,
            docs,
        });
        let last = self.checks.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "one was just pushed")]
        &mut self.checks[last]
    }

    /// Looking again will not help: somebody has to do something first.
    pub(super) fn stop_retrying(&mut self) {
        self.is_final = true;
    }

    pub(super) fn is_final(&self) -> bool {
        self.is_final
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
                check.name, check.detail
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
            (0, warnings) => format!("it works, with {}", format::count(warnings, "warning")),
            (failures, warnings) => format!(
                "{}, {}",
                format::count(failures, "failure"),
                format::count(warnings, "warning")
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
                    c.detail
                )
            })
            .collect()
    }
}
