/// Rows of an insert, in as few statements as there are for powers of two.
struct InsertCalls {
    private(set) var calls: [PostgresCall] = []
    private let statement: String
    private let columnCount: Int
    private let rowBytes: Int
    private var rowsLeft: Int
    private var size = 0
    private var row = 0
    private var parameters = PostgresParameters()

    /// - Parameters:
    ///   - rows: how many will be added.
    ///   - rowBytes: about so many bytes each.
    init(_ statement: String, columns: Int, rows: Int, rowBytes: Int) {
        self.statement = statement
        self.rowBytes = rowBytes
        columnCount = columns
        rowsLeft = rows
    }

    @inline(__always)
    mutating func addRow(_ write: (inout PostgresParameters) -> Void) {
        if row == size {
            precondition(rowsLeft > 0, "as many rows are added as were said")
            size = min(Schema.insertedRowsMax, 1 << (Int.bitWidth - 1 - rowsLeft.leadingZeroBitCount))
            row = 0
            parameters = PostgresParameters(count: size * columnCount, bytes: size * rowBytes)
        }
        write(&parameters)
        row += 1
        rowsLeft -= 1
        guard row == size else { return }
        calls.append(PostgresCall("\(statement)-\(size)", parameters))
        parameters = PostgresParameters()
    }
}
