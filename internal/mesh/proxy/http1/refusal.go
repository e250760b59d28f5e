package http1

import "net/http"

// refusal is why a message is not passed on. All of them are made here, so that
// refusing costs nothing and says nothing that a peer has sent.
type refusal struct {
	why string
	// status is what a client is told; an application's fault is always 502.
	status int
	// limit is the one that has bitten, if limited.
	limit   Limit
	limited bool
}

// Error implements error.
func (r *refusal) Error() string { return r.why }

func bad(why string) *refusal { return &refusal{why: why, status: http.StatusBadRequest} }

func beyond(l Limit, status int, why string) *refusal {
	return &refusal{why: why, status: status, limit: l, limited: true}
}

var (
	errBareLF       = bad("a line that ends without CR")
	errLine         = bad("malformed request line")
	errMethod       = bad("malformed method")
	errTarget       = bad("malformed request target")
	errForm         = bad("a request target in a form that its method does not have")
	errVersion      = bad("unsupported version")
	errName         = bad("malformed field name")
	errHidden       = bad("a field name that some take for one that frames the message")
	errValue        = bad("malformed field value")
	errHost         = bad("malformed host")
	errNoHost       = bad("no host")
	errHosts        = bad("two hosts")
	errHostDiffers  = bad("host and request target differ")
	errLength       = bad("malformed content-length")
	errPadded       = bad("white space before what frames the message")
	errLengths      = bad("two content-lengths")
	errCoding       = bad("unsupported transfer-encoding")
	errCodings      = bad("two transfer-encodings")
	errCodingOld    = bad("transfer-encoding in HTTP/1.0")
	errLengthCoding = bad("both content-length and transfer-encoding")
	errConnectBody  = bad("a body with CONNECT")
	errStatusLine   = bad("malformed status line")
	errChunkSize    = bad("malformed chunk size")
	errChunkEnd     = bad("a chunk without its end")
	errSwitched     = bad("protocols switched unasked")
	errEarlyBody    = bad("a body with an informational answer")
	errExpect       = &refusal{why: "unknown expectation", status: http.StatusExpectationFailed}

	errHeadLimit      = beyond(HeadLimit, http.StatusRequestHeaderFieldsTooLarge, "head too large")
	errFieldsLimit    = beyond(FieldsLimit, http.StatusRequestHeaderFieldsTooLarge, "too many fields")
	errTrailerLimit   = beyond(TrailerLimit, http.StatusBadRequest, "trailers or chunk line too large")
	errExtensionLimit = beyond(ExtensionLimit, http.StatusBadRequest, "too many chunk extensions")
	errHeadTime       = beyond(HeadTimeLimit, http.StatusRequestTimeout, "head took too long")
	errInformational  = beyond(InformationalLimit, http.StatusBadGateway, "too many informational answers")
)
