//! A problem of the configuration file, as the components report it.
//!
//! Each component checks its own section and reports every issue at once; `config` knows the file
//! and adds where it says so.

use std::fmt;

/// One value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigIssue {
    key: String,
    problem: String,
    fix: Option<String>,
    undefined: Option<(&'static str, String)>,
}

impl ConfigIssue {
    /// `key` is the value's dotted path in the file, such as `policy.rules[0].callers`.
    pub fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            key: key.into(),
            problem: problem.to_string(),
            fix: None,
            undefined: None,
        }
    }

    /// The value at `key` names `[section.name]`, which does not exist or has an issue of its own.
    pub fn undefined(key: impl Into<String>, section: &'static str, name: &str) -> Self {
        let problem = format_args!("there is no [{section}.{}]", name.escape_debug());
        Self {
            undefined: Some((section, name.to_owned())),
            ..Self::new(key, problem)
        }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn with_fix(mut self, fix: impl fmt::Display) -> Self {
        self.fix = Some(fix.to_string());
        self
    }

    /// The dotted path of the value.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong with the value.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to write instead.
    pub fn fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// Section and name of the table that [`Self::undefined`] misses.
    pub fn undefined_table(&self) -> Option<(&'static str, &str)> {
        let (section, name) = self.undefined.as_ref()?;
        Some((section, name))
    }
}

impl fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigIssue {}

/// Every issue of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigIssues(Vec<ConfigIssue>);

impl ConfigIssues {
    /// Adds an issue.
    pub fn push(&mut self, issue: ConfigIssue) {
        self.0.push(issue);
    }

    /// Adds an issue unless `valid`.
    pub fn require(&mut self, valid: bool, key: impl Into<String>, problem: impl fmt::Display) {
        if !valid {
            self.push(ConfigIssue::new(key, problem));
        }
    }

    /// The value, or `None` once its issues are added.
    pub fn collect<T>(&mut self, checked: Result<T, impl Into<Self>>) -> Option<T> {
        checked
            .map_err(|issues| self.0.extend(issues.into().0))
            .ok()
    }

    /// The section's value if nothing is wrong with it. `value` is `None` only if a part of it is
    /// missing because of an issue.
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The same issues in the table `table`.
    #[must_use]
    pub fn under(mut self, table: &str) -> Self {
        for issue in &mut self.0 {
            issue.key = format!("{table}.{}", issue.key);
        }
        self
    }
}

impl From<ConfigIssue> for ConfigIssues {
    fn from(issue: ConfigIssue) -> Self {
        Self(vec![issue])
    }
}

impl IntoIterator for ConfigIssues {
    type Item = ConfigIssue;
    type IntoIter = std::vec::IntoIter<ConfigIssue>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for ConfigIssues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            issue.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigIssues {}
