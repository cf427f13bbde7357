//! As much of JSON as an issuer's answer needs: the texts and whole numbers of one object.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
    /// Something else, which nobody here asks for.
    Other,
}

/// The fields of an object; `None` if `bytes` are no JSON object.
pub fn object(bytes: &[u8]) -> Option<BTreeMap<String, Value>> {
    let mut reader = Reader { rest: bytes };
    let mut fields = BTreeMap::new();
    reader.expect(b'{')?;
    if reader.peek()? == b'}' {
        reader.expect(b'}')?;
    } else {
        loop {
            let name = reader.text()?;
            reader.expect(b':')?;
            fields.insert(name, reader.value()?);
            match reader.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
    }
    reader.skip_space();
    reader.rest.is_empty().then_some(fields)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        self.skip_space();
        self.byte()
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn text(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                b'"' => return String::from_utf8(text).ok(),
                b'\\' => {
                    let plain = match self.byte()? {
                        b'n' => '\n',
                        b't' => '\t',
                        b'r' => '\r',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'u' => self.code()?,
                        c @ (b'"' | b'\\' | b'/') => char::from(c),
                        _ => return None,
                    };
                    text.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..0x20 => return None,
                byte => text.push(byte),
            }
        }
    }

    /// Four hexadecimal digits. Halves of a pair become the replacement character: tokens have none.
    fn code(&mut self) -> Option<char> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn value(&mut self) -> Option<Value> {
        match self.peek()? {
            b'"' => self.text().map(Value::Text),
            b'{' | b'[' => self.skip_nested().map(|()| Value::Other),
            _ => {
                let length = self.rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
                let (word, rest) = self.rest.split_at_checked(length).filter(|(word, _)| !word.is_empty())?;
                self.rest = rest;
                let word = std::str::from_utf8(word).ok()?;
                Some(word.parse().map_or(Value::Other, Value::Number))
            }
        }
    }

    /// Brackets are counted and texts are read, so nothing in them is taken for the end.
    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => _ = self.text()?,
                byte => {
                    self.byte()?;
                    match byte {
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let answer = r#" { "access_token" : "a.b\u002fc\"\\" , "expires_in":3600,"x":{"y":["}",{"z":"]"}]},"w":null,
            "v":-1.5 } "#;
        let fields = object(answer.as_bytes()).unwrap();
        assert_eq!(fields["access_token"], Value::Text("a.b/c\"\\".into()));
        assert_eq!(fields["expires_in"], Value::Number(3600));
        assert_eq!([&fields["x"], &fields["w"], &fields["v"]], [&Value::Other; 3]);
        assert!(object(b"{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in [
            "",
            "x",
            "[]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}x",
            "{\"a\":\"\\u12\"}",
            "{\"a\":[}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
    }
}
