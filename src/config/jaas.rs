//! A line of `sasl.jaas.config`: `CLASS required NAME="VALUE" ... ;`.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

#[derive(PartialEq, Eq)]
pub(super) struct Jaas {
    /// The last part of the login module's class.
    pub module: String,
    pub options: BTreeMap<String, Zeroizing<String>>,
}

/// Errors say what is wrong with the line, and quote nothing of it: it holds a password.
pub(super) fn parse(line: &str) -> Result<Jaas, &'static str> {
    let line = line.trim().strip_suffix(';').ok_or("does not end in a semicolon")?;
    let mut words = Words(line);
    let class = words.next().transpose()?.ok_or("names no login module")?;
    let control = words.next().transpose()?.ok_or("lacks `required` behind the login module")?;
    if !["required", "requisite", "sufficient", "optional"].contains(&control.to_ascii_lowercase().as_str()) {
        return Err("lacks `required` behind the login module");
    }
    let mut options = BTreeMap::new();
    for word in words {
        let word = word?;
        let (name, value) = word.split_once('=').ok_or("has an option without a value")?;
        if options.insert(name.to_owned(), Zeroizing::new(value.to_owned())).is_some() {
            return Err("has an option twice");
        }
    }
    Ok(Jaas { module: class.rsplit('.').next().unwrap_or_default().to_owned(), options })
}

/// Words between white space, quotes taken off.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = Result<Zeroizing<String>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = self.0.trim_start();
        if self.0.is_empty() {
            return None;
        }
        let mut word = Zeroizing::new(String::new());
        let mut quote = None;
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match quote {
                Some(_) if c == '\\' => match chars.next() {
                    Some((_, 'n')) => word.push('\n'),
                    Some((_, 't')) => word.push('\t'),
                    Some((_, 'r')) => word.push('\r'),
                    Some((_, c)) => word.push(c),
                    None => return Some(Err("has a quote that does not end")),
                },
                Some(end) if c == end => quote = None,
                Some(_) => word.push(c),
                None if c == '"' || c == '\'' => quote = Some(c),
                None if c.is_whitespace() => {
                    self.0 = &self.0[at..];
                    return Some(Ok(word));
                }
                None => word.push(c),
            }
        }
        self.0 = "";
        Some(if quote.is_some() { Err("has a quote that does not end") } else { Ok(word) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_java_are_understood() {
        let line = r#"  org.apache.kafka.common.security.scram.ScramLoginModule required
             username="al\"ice" password='se cret;=\\' tokenauth=true ; "#;
        let Ok(Jaas { module, options }) = parse(line) else { panic!() };
        assert_eq!(module, "ScramLoginModule");
        let options: Vec<_> = options.iter().map(|(name, value)| (&**name, &***value)).collect();
        assert_eq!(options, [("password", "se cret;=\\"), ("tokenauth", "true"), ("username", "al\"ice")]);
    }

    #[test]
    fn what_is_wrong_is_said_without_a_quote() {
        for (line, problem) in [
            ("a.B required x=1", "does not end in a semicolon"),
            (";", "names no login module"),
            ("a.B;", "lacks `required` behind the login module"),
            ("a.B x=1;", "lacks `required` behind the login module"),
            ("a.B required x;", "has an option without a value"),
            ("a.B required x=1 x=2;", "has an option twice"),
            ("a.B required x=\"1;", "has a quote that does not end"),
        ] {
            assert_eq!(parse(line).err(), Some(problem), "{line}");
        }
    }
}
