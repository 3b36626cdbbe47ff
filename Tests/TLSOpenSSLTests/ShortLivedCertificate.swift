import COpenSSL
import Foundation

/// Signs the certificate in a PEM file again, so that it ends in so many seconds. The openssl command counts in days.
func shortenValidity(of certificateFile: String, signedBy keyFile: String, seconds: Int) throws {
    let failure = CommandFailure(description: "cannot sign \(certificateFile) again")
    guard let input = unsafe BIO_new_file(certificateFile, "r") else { throw failure }
    defer { unsafe _ = BIO_free(input) }
    guard let keyInput = unsafe BIO_new_file(keyFile, "r") else { throw failure }
    defer { unsafe _ = BIO_free(keyInput) }
    guard let certificate = unsafe PEM_read_bio_X509(input, nil, nil, nil) else { throw failure }
    defer { unsafe X509_free(certificate) }
    guard let key = unsafe PEM_read_bio_PrivateKey(keyInput, nil, nil, nil) else { throw failure }
    defer { unsafe EVP_PKEY_free(key) }
    guard unsafe X509_gmtime_adj(X509_getm_notAfter(certificate), seconds) != nil,
        unsafe X509_sign(certificate, key, EVP_sha256()) > 0,
        let output = unsafe BIO_new_file(certificateFile, "w")
    else { throw failure }
    defer { unsafe _ = BIO_free(output) }
    guard unsafe PEM_write_bio_X509(output, certificate) == 1 else { throw failure }
}
