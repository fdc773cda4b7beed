//! The findings of `check`, and how they are printed.

use std::fmt::Display;

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

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    category: &'static str,
    name: String,
    result: Level,
    #[serde(rename = "said")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
}

impl Finding {
    /// Adds what to do about it.
    pub(super) fn hint(&mut self, hint: impl Display) {
        self.hint = Some(hint.to_string());
    }
}

/// All findings, in the order of the checks.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    checks: Vec<Finding>,
    #[serde(skip)]
    is_final: bool,
}

impl Report {
    pub(super) fn pass(&mut self, category: &'static str, name: &str, detail: impl Display) {
        self.add(category, name, Level::Ok, &detail);
    }

    pub(super) fn warn(
        &mut self,
        category: &'static str,
        name: &str,
        detail: impl Display,
    ) -> &mut Finding {
        self.add(category, name, Level::Warning, &detail)
    }

    pub(super) fn fail(
        &mut self,
        category: &'static str,
        name: &str,
        detail: impl Display,
    ) -> &mut Finding {
        self.add(category, name, Level::Failed, &detail)
    }

    /// A failure without a hint.
    pub(super) fn error(&mut self, category: &'static str, name: &str, error: impl Display) {
        self.add(category, name, Level::Failed, &error);
    }

    fn add(
        &mut self,
        category: &'static str,
        name: &str,
        result: Level,
        detail: &dyn Display,
    ) -> &mut Finding {
        let docs = (result != Level::Ok).then(|| format!("{PAGE}#check-{category}"));
        self.checks.push(Finding {
            category,
            name: name.to_owned(),
            result,
            detail: detail.to_string().replace(char::is_control, " "),
            hint: None,
            docs,
        });
        let last = self.checks.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "one was just pushed")]
        &mut self.checks[last]
    }

    /// Repeating the checks cannot help before somebody has acted.
    pub(super) fn stop_retrying(&mut self) {
        self.is_final = true;
    }

    pub(super) fn is_final(&self) -> bool {
        self.is_final
    }

    pub(super) fn failures(&self) -> usize {
        self.count(Level::Failed)
    }

    fn count(&self, level: Level) -> usize {
        let checks = self.checks.iter();
        checks.filter(|check| check.result == level).count()
    }

    /// Findings by category with √ ‼ ×, hints below them, and a summary.
    pub(super) fn table(&self, colored: bool) -> String {
        let mut text = String::new();
        let mut category = "";
        for check in &self.checks {
            if check.category != category {
                category = check.category;
                let gap = if text.is_empty() { "" } else { "\n" };
                let rule = "-".repeat(category.len());
                text.push_str(&format!("{gap}{category}\n{rule}\n"));
            }
            let (color, off) = match colored {
                true => (check.result.color(), "\x1b[0m"),
                false => ("", ""),
            };
            let (mark, name, detail) = (check.result.mark(), &check.name, &check.detail);
            text.push_str(&format!("{color}{mark}{off} {name}: {detail}\n"));
            if let Some(hint) = &check.hint {
                text.push_str(&format!("    {hint}\n"));
            }
            if let Some(docs) = &check.docs {
                text.push_str(&format!("    see {docs}\n"));
            }
        }
        let warnings = format::count(self.count(Level::Warning), "warning");
        let failures = format::count(self.failures(), "failure");
        let summary = match (self.failures(), self.count(Level::Warning)) {
            (0, 0) => "all checks passed".to_owned(),
            (0, _) => format!("no failures, {warnings}"),
            _ => format!("{failures}, {warnings}"),
        };
        text.push_str(&format!("\n{summary}\n"));
        text
    }

    /// One line for each warning and failure.
    pub(super) fn short(&self) -> String {
        let checks = self.checks.iter();
        checks
            .filter(|check| check.result != Level::Ok)
            .map(|check| {
                let mark = check.result.mark();
                format!(
                    "{mark} {} {}: {}\n",
                    check.category, check.name, check.detail
                )
            })
            .collect()
    }
}
