//! The syntax of Java's properties files, in UTF-8.

/// The pairs of a file, each with the number of its line.
pub(super) fn parse(text: &str) -> Result<Vec<(usize, String, String)>, String> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let number = number + 1;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        // An odd number of backslashes at its end: the next line goes on with it.
        let mut logical = line.to_owned();
        while logical.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1 {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical += next.trim_start();
        }
        let (name, value) = split(&logical);
        let unescape = |text| unescape(text).map_err(|problem| format!("line {number}: {problem}"));
        pairs.push((number, unescape(name)?, unescape(value)?.trim_end().to_owned()));
    }
    Ok(pairs)
}

/// A name ends before `=`, `:` or white space that no backslash stands before.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line.char_indices().find(|&(_, c)| {
        let ends = !is_escaped && (c == '=' || c == ':' || c.is_whitespace());
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    (name, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let c = code.and_then(char::from_u32).ok_or("\\u without four hexadecimal digits of a character")?;
                plain.push(c);
            }
            Some(c) => plain.push(c),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_java_reads_them() {
        let text = "# comment\n! another\n\n a=1\nb : 2 \nc 3\nd\ne=x=y:z\nf=one, \\\n    two\ng\\=h=\\u00fc\\t\\\\\ni=\\\\\nj=\r\n";
        let pairs = parse(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(line, name, value)| (*line, &**name, &**value)).collect();
        assert_eq!(
            pairs,
            [
                (4, "a", "1"),
                (5, "b", "2"),
                (6, "c", "3"),
                (7, "d", ""),
                (8, "e", "x=y:z"),
                (9, "f", "one, two"),
                (11, "g=h", "ü\t\\"),
                (12, "i", "\\"),
                (13, "j", ""),
            ]
        );
        assert_eq!(parse("a=\\u12").unwrap_err(), "line 1: \\u without four hexadecimal digits of a character");
    }
}
