import MartletModel

/// A handler could not take an event in. Nothing of the transaction may be committed.
struct HandlerFailure: Error {
    var failure: ProjectionFailure
    /// The position of the event whose handler took too long, where that is the failure.
    var tooLong: Position?
}

extension Projection {
    /// Has the handler take an event in.
    /// - Throws: ``HandlerFailure`` where it is the event's fault; what the database throws for a while; `CancellationError`.
    func take(_ event: ProjectedEvent, _ transaction: any ProjectionTransaction) async throws {
        do {
            try await handle(event, in: transaction)
        } catch let failure as ProjectionFailure {
            throw HandlerFailure(failure: failure)
        } catch let error as ProjectionDatabaseError where error.isTransient {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw HandlerFailure(failure: ProjectionFailure(.retry(after: nil), "\(error)"))
        }
    }
}
