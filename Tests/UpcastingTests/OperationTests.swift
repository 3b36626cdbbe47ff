import MartletUpcasting
import Testing

/// One row an operation and a case: what it makes of a payload.
@Suite("Operations")
struct OperationTests {
    struct Row: CustomTestStringConvertible, Sendable {
        var operation: String
        var before: String
        /// The new payload, or ! and the start of the complaint.
        var after: String

        init(_ operation: String, _ before: String, _ after: String) {
            self.operation = operation
            self.before = before
            self.after = after
        }

        var testDescription: String { "\(operation) on \(before)" }
    }

    @Test(
        arguments: [
            rename, move, copy, remove, set, setDefault, convert, convertTime, map, wrap, unwrap, split, join, paths,
            exactness,
        ].joined())
    func makesOfAPayload(_ row: Row) throws {
        let became = try Sample.step(row.operation).became(row.before)
        if case .failed(let complaint) = became, row.after.hasPrefix("!") {
            #expect(complaint.hasPrefix(row.after.dropFirst()))
        } else {
            #expect(became == .payload(row.after))
        }
    }

    static let rename = [
        Row(#"{"rename":{"path":"/a","to":"b"}}"#, #"{"x":1,"a":2,"y":3}"#, #"{"x":1,"b":2,"y":3}"#),
        Row(#"{"rename":{"path":"/a","to":"b"}}"#, #"{"x":1}"#, #"{"x":1}"#),
        Row(#"{"rename":{"path":"/a","to":"b","required":true}}"#, #"{"x":1}"#, "!is absent but required"),
        Row(#"{"rename":{"path":"/a","to":"b"}}"#, #"{"a":1,"b":2}"#, "!cannot be renamed"),
        Row(#"{"rename":{"path":"/a","to":"b","replace":true}}"#, #"{"a":1,"b":2}"#, #"{"b":1}"#),
        Row(#"{"rename":{"path":"/a","to":"a"}}"#, #"{"a":1}"#, #"{"a":1}"#),
        Row(#"{"rename":{"path":"/0","to":"b"}}"#, #"[1]"#, "!is an element of an array"),
        Row(#"{"rename":{"path":"/0","to":"b"}}"#, #"{"0":1}"#, #"{"b":1}"#),
        Row(#"{"rename":{"path":"/l/*/a","to":"b"}}"#, #"{"l":[{"a":1},{"c":2},3]}"#, #"{"l":[{"b":1},{"c":2},3]}"#),
        Row(#"{"rename":{"path":"/a","to":"\"\\\n"}}"#, #"{"a":1}"#, #"{"\"\\\n":1}"#),
    ]

    static let move = [
        Row(#"{"move":{"from":"/a","to":"/b/c/d"}}"#, #"{"a":[1, 2],"x":0}"#, #"{"x":0,"b":{"c":{"d":[1, 2]}}}"#),
        Row(#"{"move":{"from":"/a","to":"/b"}}"#, #"{"x":0}"#, #"{"x":0}"#),
        Row(#"{"move":{"from":"/a","to":"/b","required":true}}"#, #"{"x":0}"#, "!is absent but required"),
        Row(#"{"move":{"from":"/a","to":"/b"}}"#, #"{"a":1,"b":2}"#, "!cannot be the target"),
        Row(#"{"move":{"from":"/a","to":"/b","replace":true}}"#, #"{"a":1,"b":2}"#, #"{"b":1}"#),
        Row(#"{"move":{"from":"/a","to":"/a/b"}}"#, #"{"a":1,"x":2}"#, #"{"a":{"b":1},"x":2}"#),
        Row(#"{"move":{"from":"/a/b","to":"/a","replace":true}}"#, #"{"a":{"b":1,"c":2}}"#, #"{"a":1}"#),
        Row(#"{"move":{"from":"/a","to":"/a"}}"#, #"{"a":1,"b":2}"#, #"{"a":1,"b":2}"#),
        Row(#"{"move":{"from":"","to":"/data"}}"#, #"{"a":1}"#, #"{"data":{"a":1}}"#),
        Row(#"{"move":{"from":"/data","to":"","replace":true}}"#, #"{"data":[1],"x":2}"#, "[1]"),
        Row(#"{"move":{"from":"/l/0","to":"/first"}}"#, #"{"l":[1,2]}"#, #"{"l":[2],"first":1}"#),
        Row(#"{"move":{"from":"/l/0","to":"/l/-"}}"#, #"{"l":[1,2,3]}"#, #"{"l":[2,3,1]}"#),
        Row(#"{"move":{"from":"/a","to":"/l/-"}}"#, #"{"a":1}"#, #"{"l":[1]}"#),
        Row(#"{"move":{"from":"/a","to":"/l/7"}}"#, #"{"a":1,"l":[0]}"#, "!leads beyond the end"),
        Row(#"{"move":{"from":"/a","to":"/b/c"}}"#, #"{"a":1,"b":2}"#, "!leads through a value"),
        Row(
            #"{"move":{"from":"/l/*/a","to":"/l/*/b/c"}}"#, #"{"l":[{"a":1},{},{"a":3}]}"#,
            #"{"l":[{"b":{"c":1}},{},{"b":{"c":3}}]}"#),
        Row(#"{"move":{"from":"/l/*","to":"/l/*/v"}}"#, #"{"l":[1,[2]]}"#, #"{"l":[{"v":1},{"v":[2]}]}"#),
        Row(
            #"{"move":{"from":"/l/*/v","to":"/l/*","replace":true}}"#, #"{"l":[{"v":1},{"v":[2]}]}"#, #"{"l":[1,[2]]}"#),
        Row(
            #"{"move":{"from":"/a/*","to":"/b/*"}}"#, #"{"a":{"x":1,"y":2},"b":{"z":3}}"#,
            #"{"a":{},"b":{"z":3,"x":1,"y":2}}"#),
        Row(#"{"move":{"from":"/a/*","to":"/b/*"}}"#, #"{"a":[1,2]}"#, #"{"a":[],"b":[1,2]}"#),
        Row(
            #"{"move":{"from":"/a/*","to":"/b/*/v"}}"#, #"{"a":[1,2],"b":[{"k":0},{}]}"#,
            #"{"a":[],"b":[{"k":0,"v":1},{"v":2}]}"#),
        Row(#"{"move":{"from":"/a/*","to":"/b/*"}}"#, #"{"a":[1],"b":{}}"#, "!has a * that stands for an element"),
        Row(#"{"move":{"from":"/a/*","to":"/b/*"}}"#, #"{"a":{"k":1},"b":[]}"#, "!leads beyond the end"),
        Row(
            #"{"move":{"from":"/a/*","to":"/*/b","replace":true}}"#, #"{"a":{"a":1,"b":2},"b":{}}"#,
            "!was replaced before its turn"),
    ]

    static let copy = [
        Row(#"{"copy":{"from":"/a","to":"/b/c"}}"#, #"{"a":{"x": 1}}"#, #"{"a":{"x": 1},"b":{"c":{"x": 1}}}"#),
        Row(#"{"copy":{"from":"/a","to":"/a/self"}}"#, #"{"a":{"x":1}}"#, #"{"a":{"x":1,"self":{"x":1}}}"#),
        Row(#"{"copy":{"from":"","to":"/self"}}"#, #"{"x":1}"#, #"{"x":1,"self":{"x":1}}"#),
        Row(#"{"copy":{"from":"/a","to":"/b"}}"#, #"{}"#, #"{}"#),
        Row(#"{"copy":{"from":"/a","to":"/b"}}"#, #"{"a":1,"b":1}"#, "!cannot be the target"),
        Row(
            #"{"copy":{"from":"/l/*/p","to":"/p/*"}}"#, #"{"l":[{"p":1},{"p":2}]}"#,
            #"{"l":[{"p":1},{"p":2}],"p":[1,2]}"#),
        Row(#"{"copy":{"from":"/l/*/p","to":"/p/*"}}"#, #"{"l":[{},{"p":2}]}"#, "!leads beyond the end"),
        Row(
            #"{"copy":{"from":"/m/*/p","to":"/p/*"}}"#, #"{"m":{"a\/b":{"p":1}}}"#,
            #"{"m":{"a\/b":{"p":1}},"p":{"a\/b":1}}"#),
    ]

    static let remove = [
        Row(#"{"remove":{"path":"/a"}}"#, #"{"a":1,"b":2}"#, #"{"b":2}"#),
        Row(#"{"remove":{"path":"/a"}}"#, #"{"a":1}"#, "{}"),
        Row(#"{"remove":{"path":"/a/b"}}"#, #"{"a":1}"#, #"{"a":1}"#),
        Row(#"{"remove":{"path":"/a/b","required":true}}"#, #"{"a":1}"#, "!is absent but required"),
        Row(#"{"remove":{"path":"/l/1"}}"#, #"{"l":[1,2,3]}"#, #"{"l":[1,3]}"#),
        Row(#"{"remove":{"path":"/l/01"}}"#, #"{"l":[1,2,3]}"#, #"{"l":[1,2,3]}"#),
        Row(#"{"remove":{"path":"/l/*"}}"#, #"{"l":[1,2,3]}"#, #"{"l":[]}"#),
        Row(#"{"remove":{"path":"/*/s"}}"#, #"{"a":{"s":1},"b":{"s":2,"t":3}}"#, #"{"a":{},"b":{"t":3}}"#),
        Row(#"{"remove":{"path":"/l/*/s","required":true}}"#, #"{"l":[{"s":1},{}]}"#, "!is absent but required"),
        Row(#"{"remove":{"path":"/l/*/s","required":true}}"#, #"{"l":[]}"#, #"{"l":[]}"#),
        Row(#"{"remove":{"path":"/l/*/s","required":true}}"#, #"{"l":1}"#, "!has no elements"),
    ]

    static let set = [
        Row(#"{"set":{"path":"/a","value":{"k": [1]}}}"#, #"{"a":1,"b":2}"#, #"{"a":{"k":[1]},"b":2}"#),
        Row(#"{"set":{"path":"/a/b/c","value":1.50}}"#, #"{"x":0}"#, #"{"x":0,"a":{"b":{"c":1.50}}}"#),
        Row(#"{"set":{"path":"/l/*/c","value":"EUR"}}"#, #"{"l":[{},{"c":1}]}"#, #"{"l":[{"c":"EUR"},{"c":"EUR"}]}"#),
        Row(#"{"set":{"path":"/l/*","value":0}}"#, #"{"l":[1,{}]}"#, #"{"l":[0,0]}"#),
        Row(#"{"set":{"path":"/l/*/c","value":0}}"#, #"{"l":[1]}"#, "!leads through a value"),
        Row(#"{"set":{"path":"/l/*/c","value":0}}"#, #"{"x":1}"#, #"{"x":1}"#),
        Row(#"{"set":{"path":"","value":{}}}"#, #"[1]"#, "{}"),
        Row(#"{"set":{"path":"/l/-","value":3}}"#, #"{"l":[1]}"#, #"{"l":[1,3]}"#),
        Row(#"{"set":{"path":"/l/1","value":3}}"#, #"{"l":[1]}"#, #"{"l":[1,3]}"#),
        Row(#"{"set":{"path":"/l/2","value":3}}"#, #"{"l":[1]}"#, "!leads beyond the end"),
        Row(#"{"set":{"path":"/a/b","value":3}}"#, #"{"a":null}"#, "!leads through a value"),
    ]

    static let setDefault = [
        Row(#"{"default":{"path":"/a/b","value":1}}"#, #"{}"#, #"{"a":{"b":1}}"#),
        Row(#"{"default":{"path":"/a","value":1}}"#, #"{"a":null}"#, #"{"a":null}"#),
        Row(#"{"default":{"path":"/a/b","value":1}}"#, #"{"a":{"c":2}}"#, #"{"a":{"c":2,"b":1}}"#),
        Row(#"{"default":{"path":"/a/b","value":1}}"#, #"{"a":[]}"#, "!leads beyond the end"),
        Row(#"{"default":{"path":"/l/*/c","value":[]}}"#, #"{"l":[{"c":1},{}]}"#, #"{"l":[{"c":1},{"c":[]}]}"#),
    ]

    static let convert = [
        Row(
            #"{"convert":{"path":"/a","to":"string"}}"#, #"{"a":12345678901234567890.10}"#,
            #"{"a":"12345678901234567890.10"}"#),
        Row(#"{"convert":{"path":"/a","to":"string"}}"#, #"{"a":true}"#, #"{"a":"true"}"#),
        Row(#"{"convert":{"path":"/a","to":"string"}}"#, #"{"a":"\u0041"}"#, #"{"a":"\u0041"}"#),
        Row(#"{"convert":{"path":"/a","to":"string"}}"#, #"{"a":null}"#, #"{"a":null}"#),
        Row(#"{"convert":{"path":"/a","to":"string"}}"#, #"{"a":[]}"#, "!is an array or object"),
        Row(
            #"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":"9223372036854775808"}"#, #"{"a":9223372036854775808}"#
        ),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":"\u0035"}"#, #"{"a":5}"#),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":1.20e3}"#, #"{"a":1200}"#),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":-5.0}"#, #"{"a":-5}"#),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":0.0}"#, #"{"a":0}"#),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":5.5}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":1e999999999}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":1e99999999999999999999}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":"007"}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":" 7"}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":""}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":"-"}"#, "!is not a whole number"),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{"a":true}"#, #"{"a":1}"#),
        Row(#"{"convert":{"path":"/a","to":"number"}}"#, #"{"a":"-0.10E+2"}"#, #"{"a":-0.10E+2}"#),
        Row(#"{"convert":{"path":"/a","to":"number"}}"#, #"{"a":"1."}"#, "!is a string that is not a number"),
        Row(#"{"convert":{"path":"/a","to":"number"}}"#, #"{"a":"NaN"}"#, "!is a string that is not a number"),
        Row(#"{"convert":{"path":"/a","to":"number"}}"#, #"{"a":1.000}"#, #"{"a":1.000}"#),
        Row(#"{"convert":{"path":"/a","to":"boolean"}}"#, #"{"a":"true"}"#, #"{"a":true}"#),
        Row(#"{"convert":{"path":"/a","to":"boolean"}}"#, #"{"a":0}"#, #"{"a":false}"#),
        Row(#"{"convert":{"path":"/a","to":"boolean"}}"#, #"{"a":2}"#, #"!is not "true", "false""#),
        Row(#"{"convert":{"path":"/a","to":"boolean"}}"#, #"{"a":"1"}"#, #"!is not "true", "false""#),
        Row(#"{"convert":{"path":"/a","to":"boolean"}}"#, #"{"a":"TRUE"}"#, #"!is not "true", "false""#),
        Row(#"{"convert":{"path":"/a/*","to":"integer"}}"#, #"{"a":["1",2,null]}"#, #"{"a":[1,2,null]}"#),
        Row(#"{"convert":{"path":"/a","to":"integer"}}"#, #"{}"#, "{}"),
    ]

    static let convertTime = [
        Row(
            #"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":"2026-01-31T12:00:00+01:00"}"#,
            #"{"t":1769857200}"#),
        Row(#"{"convert":{"path":"/t","to":"epoch-millis"}}"#, #"{"t":"1969-12-31T23:59:59.999000Z"}"#, #"{"t":-1}"#),
        Row(
            #"{"convert":{"path":"/t","to":"epoch-micros"}}"#, #"{"t":"2000-02-29t00:00:00.000001z"}"#,
            #"{"t":951782400000001}"#),
        Row(
            #"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":"2026-01-31T12:00:00.5Z"}"#,
            "!is not a whole number of epoch-seconds"),
        Row(
            #"{"convert":{"path":"/t","to":"epoch-micros"}}"#, #"{"t":"2026-01-31T12:00:00.0000001Z"}"#,
            "!is not a whole number of epoch-micros"),
        Row(#"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":"2026-02-29T12:00:00Z"}"#, "!is not a time"),
        Row(#"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":"2016-12-31T23:59:60Z"}"#, "!is not a time"),
        Row(#"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":"2016-12-31"}"#, "!is not a time"),
        Row(#"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":"2016-12-31T23:59:59"}"#, "!is not a time"),
        Row(#"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":5}"#, "!is not a time"),
        Row(#"{"convert":{"path":"/t","to":"epoch-seconds"}}"#, #"{"t":true}"#, "!is a boolean"),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-seconds"}}"#, #"{"t":0}"#,
            #"{"t":"1970-01-01T00:00:00Z"}"#),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-seconds"}}"#, #"{"t":"1769857200.25"}"#,
            #"{"t":"2026-01-31T11:00:00.250Z"}"#),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-millis"}}"#, #"{"t":-1}"#,
            #"{"t":"1969-12-31T23:59:59.999Z"}"#),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-micros"}}"#, #"{"t":951782400000001}"#,
            #"{"t":"2000-02-29T00:00:00.000001Z"}"#),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-micros"}}"#, #"{"t":1e30}"#,
            "!is not a time from year"),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-seconds"}}"#, #"{"t":253402300799}"#,
            #"{"t":"9999-12-31T23:59:59Z"}"#),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-seconds"}}"#, #"{"t":253402300800}"#,
            "!is not a time from year"),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-seconds"}}"#, #"{"t":-62167219200}"#,
            #"{"t":"0000-01-01T00:00:00Z"}"#),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-seconds"}}"#, #"{"t":-62167219201}"#,
            "!is not a time from year"),
        Row(#"{"convert":{"path":"/t","to":"epoch-millis","from":"epoch-seconds"}}"#, #"{"t":1.5}"#, #"{"t":1500}"#),
        Row(
            #"{"convert":{"path":"/t","to":"epoch-seconds","from":"epoch-millis"}}"#, #"{"t":1500}"#,
            "!is not a whole number of epoch-seconds"),
        Row(
            #"{"convert":{"path":"/t","to":"rfc3339","from":"rfc3339"}}"#, #"{"t":"2026-01-31T12:00:00.100000+01:00"}"#,
            #"{"t":"2026-01-31T11:00:00.100Z"}"#),
    ]

    static let map = [
        Row(#"{"map":{"path":"/s","table":{"open":1,"shut":{"k":"v"}}}}"#, #"{"s":"shut"}"#, #"{"s":{"k":"v"}}"#),
        Row(#"{"map":{"path":"/s","table":{"open":1}}}"#, #"{"s":"\u006fpen"}"#, #"{"s":1}"#),
        Row(#"{"map":{"path":"/s","table":{"open":1}}}"#, #"{"s":"other"}"#, "!has a value that is not in the table"),
        Row(#"{"map":{"path":"/s","table":{"open":1},"default":null}}"#, #"{"s":"other"}"#, #"{"s":null}"#),
        Row(#"{"map":{"path":"/s","table":{"1":"one","true":"yes","null":"none"}}}"#, #"{"s":1}"#, #"{"s":"one"}"#),
        Row(
            #"{"map":{"path":"/*","table":{"1":"one","true":"yes","null":"none"}}}"#, #"[true,null,1]"#,
            #"["yes","none","one"]"#),
        Row(#"{"map":{"path":"/s","table":{"1":"one"}}}"#, #"{"s":1.0}"#, "!has a value that is not in the table"),
        Row(#"{"map":{"path":"/s","table":{},"default":1}}"#, #"{"s":[]}"#, "!is an array or object"),
        Row(#"{"map":{"path":"/s","table":{"\u00e9":1,"e\u0301":2}}}"#, #"{"s":"e\u0301"}"#, #"{"s":2}"#),
        Row(#"{"map":{"path":"/s","table":{"a":1},"default":0}}"#, #"{"s":"\ud800"}"#, #"{"s":0}"#),
    ]

    static let wrap = [
        Row(#"{"wrap":{"path":"/a","in":"array"}}"#, #"{"x":0,"a":1}"#, #"{"x":0,"a":[1]}"#),
        Row(#"{"wrap":{"path":"/a","in":"object","key":"k"}}"#, #"{"a":null,"x":0}"#, #"{"a":{"k":null},"x":0}"#),
        Row(#"{"wrap":{"path":"","in":"object","key":"k"}}"#, #"[1]"#, #"{"k":[1]}"#),
        Row(#"{"wrap":{"path":"/*","in":"array"}}"#, #"[1,[2]]"#, "[[1],[[2]]]"),
        Row(#"{"wrap":{"path":"/a","in":"array"}}"#, #"{}"#, "{}"),
    ]

    static let unwrap = [
        Row(#"{"unwrap":{"path":"/a","from":"array"}}"#, #"{"a":[ {"k":1} ],"x":0}"#, #"{"a":{"k":1},"x":0}"#),
        Row(
            #"{"unwrap":{"path":"/a","from":"array"}}"#, #"{"a":[1,2]}"#,
            "!must be an array of one element, but has 2"),
        Row(#"{"unwrap":{"path":"/a","from":"array"}}"#, #"{"a":[]}"#, "!must be an array of one element, but has 0"),
        Row(#"{"unwrap":{"path":"/a","from":"array"}}"#, #"{"a":{"k":1}}"#, "!must be an array of one element"),
        Row(#"{"unwrap":{"path":"/a","from":"array"}}"#, #"{"a":null}"#, #"{"a":null}"#),
        Row(#"{"unwrap":{"path":"/a","from":"object","key":"k"}}"#, #"{"a":{"k":[1]}}"#, #"{"a":[1]}"#),
        Row(
            #"{"unwrap":{"path":"/a","from":"object","key":"k"}}"#, #"{"a":{"k":1,"l":2}}"#,
            "!must be an object with that key only"),
        Row(#"{"unwrap":{"path":"/a","from":"object","key":"k"}}"#, #"{"a":{"k":0,"k":1}}"#, #"{"a":1}"#),
        Row(#"{"unwrap":{"path":"","from":"object","key":"k"}}"#, #"{"k":1}"#, "1"),
    ]

    static let split = [
        Row(
            #"{"split":{"path":"/n","separator":" ","into":["/f","/l"]}}"#, #"{"n":"Ada King Noel"}"#,
            #"{"f":"Ada","l":"King Noel"}"#),
        Row(
            #"{"split":{"path":"/n","separator":" ","into":["/n","/l"]}}"#, #"{"n":"Ada King","x":0}"#,
            #"{"n":"Ada","x":0,"l":"King"}"#),
        Row(
            #"{"split":{"path":"/n","separator":" ","into":["/f","/l"]}}"#, #"{"n":"Ada"}"#,
            "!has 1 parts, but 2 are expected"),
        Row(
            #"{"split":{"path":"/n","separator":" ","into":["/f","/l"]}}"#, #"{"n":"A B","l":0}"#,
            "!cannot be the target"),
        Row(#"{"split":{"path":"/n","separator":" ","into":["/f","/l"]}}"#, #"{"n":1}"#, "!must be a string"),
        Row(#"{"split":{"path":"/n","separator":" ","into":["/f","/l"]}}"#, #"{"n":null}"#, #"{"n":null}"#),
        Row(
            #"{"split":{"path":"/n","separator":",","to":"/n"}}"#, #"{"n":"a,,b\u00e9\/"}"#,
            #"{"n":["a","","b\u00e9\/"]}"#),
        Row(#"{"split":{"path":"/n","separator":",","to":"/m/tags"}}"#, #"{"n":""}"#, #"{"m":{"tags":[""]}}"#),
        Row(
            #"{"split":{"path":"/n","separator":"/é","to":"/n"}}"#, #"{"n":"a\/\u00e9b/éc\\/é"}"#,
            #"{"n":["a","b","c\\",""]}"#),
        Row(#"{"split":{"path":"/n","separator":"u","to":"/n"}}"#, #"{"n":"a\u0041ub"}"#, #"{"n":["a\u0041","b"]}"#),
        Row(
            #"{"split":{"path":"/n","separator":"😀","to":"/n"}}"#, #"{"n":"a\ud83d\ude00b\ud83d"}"#,
            #"{"n":["a","b\ud83d"]}"#),
        Row(
            #"{"split":{"path":"/l/*/n","separator":" ","into":["/l/*/f","/l/*/g"]}}"#,
            #"{"l":[{"n":"a b"},{},{"n":"c d"}]}"#, #"{"l":[{"f":"a","g":"b"},{},{"f":"c","g":"d"}]}"#),
        Row(
            #"{"split":{"path":"/l/*","separator":" ","into":["/f/*","/g/*"]}}"#, #"{"l":["a b","c d"]}"#,
            #"{"l":[],"f":["a","c"],"g":["b","d"]}"#),
        Row(
            #"{"split":{"path":"/l/*","separator":" ","into":["/l/*/f","/l/*/g"]}}"#, #"{"l":["a b","c d"]}"#,
            #"{"l":[{"f":"a","g":"b"},{"f":"c","g":"d"}]}"#),
    ]

    static let join = [
        Row(
            #"{"join":{"paths":["/f","/l"],"separator":" ","into":"/n"}}"#, #"{"f":"A\u0064a","x":0,"l":7}"#,
            #"{"x":0,"n":"A\u0064a 7"}"#),
        Row(
            #"{"join":{"paths":["/f","/l"],"separator":"\"","into":"/l"}}"#, #"{"f":"A","l":"B","x":0}"#,
            #"{"l":"A\"B","x":0}"#),
        Row(#"{"join":{"paths":["/f","/l"],"separator":" ","into":"/n"}}"#, #"{"f":"A"}"#, #"{"n":"A"}"#),
        Row(#"{"join":{"paths":["/f","/l"],"separator":" ","into":"/n"}}"#, #"{"f":null,"l":"B"}"#, #"{"n":"B"}"#),
        Row(#"{"join":{"paths":["/f","/l"],"separator":" ","into":"/n"}}"#, #"{"x":0}"#, #"{"x":0}"#),
        Row(
            #"{"join":{"paths":["/f","/l"],"separator":" ","into":"/n","required":true}}"#, #"{"f":"A"}"#,
            "!is absent but required"),
        Row(
            #"{"join":{"paths":["/f","/l"],"separator":" ","into":"/n"}}"#, #"{"f":"A","l":"B","n":0}"#,
            "!cannot be the target"),
        Row(
            #"{"join":{"paths":["/f"],"separator":" ","into":"/n"}}"#, #"{"f":[]}"#,
            "!is an array or object, which cannot be joined"),
        Row(#"{"join":{"path":"/t","separator":",","into":"/t"}}"#, #"{"t":["a",1,null,true]}"#, #"{"t":"a,1,true"}"#),
        Row(#"{"join":{"path":"/t","separator":"","into":"/u"}}"#, #"{"t":[]}"#, #"{"u":""}"#),
        Row(#"{"join":{"path":"/t","separator":"","into":"/u"}}"#, #"{"t":"x"}"#, "!must be an array"),
        Row(
            #"{"join":{"path":"/t","separator":"","into":"/u"}}"#, #"{"t":[[]]}"#,
            "!is an array or object, which cannot be joined"),
        Row(
            #"{"join":{"paths":["/l/*/f","/l/*/g"],"separator":"-","into":"/l/*/n"}}"#,
            #"{"l":[{"f":1,"g":2},{"g":3}]}"#, #"{"l":[{"n":"1-2"},{"n":"3"}]}"#),
        Row(
            #"{"join":{"path":"/l/*","separator":"-","into":"/m/*"}}"#, #"{"l":{"x":[1,2],"y":[3]}}"#,
            #"{"l":{},"m":{"x":"1-2","y":"3"}}"#),
    ]

    static let paths = [
        Row(#"{"remove":{"path":"/a~1b/~0"}}"#, #"{"a/b":{"~":1,"x":2}}"#, #"{"a/b":{"x":2}}"#),
        Row(#"{"remove":{"path":"/"}}"#, #"{"":1,"x":2}"#, #"{"x":2}"#),
        Row(#"{"remove":{"path":"/a"}}"#, #"{"\u0061":1,"x":2}"#, #"{"x":2}"#),
        Row(#"{"remove":{"path":"/\u0061"}}"#, #"{"a":1,"x":2}"#, #"{"x":2}"#),
        Row(#"{"remove":{"path":"/e\u0301"}}"#, #"{"\u00e9":1,"e\u0301":2}"#, #"{"\u00e9":1}"#),
        Row(#"{"remove":{"path":"/a"}}"#, #"{"a":1,"x":2,"a":3}"#, #"{"x":2}"#),
        Row(#"{"rename":{"path":"/a","to":"b"}}"#, #"{"a":1,"x":2,"a":3}"#, #"{"x":2,"b":3}"#),
        Row(#"{"remove":{"path":"/b"}}"#, #"{"a":1,"a":3}"#, #"{"a":1,"a":3}"#),
        Row(#"{"wrap":{"path":"/*","in":"array"}}"#, #"{"a":1,"b":2,"\u0061":3}"#, #"{"b":[2],"\u0061":[3]}"#),
        Row(
            #"{"wrap":{"path":"/*","in":"array"}}"#,
            #"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"\u0061":0}"#,
            #"{"b":[2],"c":[3],"d":[4],"e":[5],"f":[6],"g":[7],"h":[8],"i":[9],"\u0061":[0]}"#),
    ]

    static let exactness = [
        Row(
            #"{"remove":{"path":"/x"}}"#, " { \"a\" : [ 1 , 2.50 ] , \"x\":0, \"b\":\"\\u00E9\\/\" } \n",
            #"{"a":[ 1 , 2.50 ],"b":"\u00E9\/"}"#),
        Row(
            #"{"remove":{"path":"/x"}}"#,
            #"{"n":18446744073709551615,"d":0.1000000000000000055511151231257827,"e":1E400}"#,
            #"{"n":18446744073709551615,"d":0.1000000000000000055511151231257827,"e":1E400}"#),
        Row(#"{"remove":{"path":"/x"}}"#, #"{"s":"\ud800"}"#, #"{"s":"\ud800"}"#),
        Row(#"{"remove":{"path":"/x"}}"#, "5", "5"),
        Row(
            #"{"set":{"path":"/c/z","value":1}}"#, #"{"a":1,"b":"x,y","c":{},"d":[],"e":{"f":2}}"#,
            #"{"a":1,"b":"x,y","c":{"z":1},"d":[],"e":{"f":2}}"#),
    ]
}
