package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Why a Reviewer does not name an account.
var (
	// ErrNotAuthenticated: the API server does not know the token.
	ErrNotAuthenticated = errors.New("token not authenticated")
	// ErrMalformed: the token, or the user it names, has not the right form.
	ErrMalformed = errors.New("token malformed")
)

// Account is a ServiceAccount.
type Account struct {
	Namespace, Name string
}

// Reviewer finds out whose token it is. Its errors wrap ErrNotAuthenticated or
// ErrMalformed when the token is to blame.
type Reviewer interface {
	Review(ctx context.Context, token string) (Account, error)
}

// Service answers Certify. Fields are set before it serves.
type Service struct {
	pb.UnimplementedIdentityServer

	// Reviewer is asked about every token.
	Reviewer Reviewer
	// Name maps an account to its identity.
	Name func(Account) string
	// Lifetime and Skew of leaves; zero means the defaults.
	Lifetime, Skew time.Duration

	// ca is nil until the issuer is loaded and replaced when it is rotated.
	ca atomic.Pointer[CA]
}

// Use makes ca the issuer of everything from now on.
func (s *Service) Use(ca *CA) { s.ca.Store(ca) }

// Issuer is the one in use, nil when there is none.
func (s *Service) Issuer() *CA { return s.ca.Load() }

// Sign is an identity.Signer for the role's own leaf: the request is not a
// stranger's, so nothing is reviewed.
func (s *Service) Sign(_ context.Context, der []byte) ([][]byte, error) {
	ca := s.ca.Load()
	if ca == nil {
		return nil, errors.New("no issuer yet")
	}
	csr, err := parseCSR(der)
	if err != nil {
		return nil, err
	}
	if len(csr.DNSNames) != 1 {
		return nil, fmt.Errorf("certificate request has %d DNS names", len(csr.DNSNames))
	}
	chain, _, err := s.issue(ca, csr.DNSNames[0], csr)
	return chain, err
}

// Certify implements io.linkerd.proxy.identity.Identity. The order of the
// checks and their codes are J-03's.
func (s *Service) Certify(ctx context.Context, request *pb.CertifyRequest) (*pb.CertifyResponse, error) {
	log := slog.With("identity", request.GetIdentity())
	response, err := s.certify(ctx, request)
	if err != nil {
		log.Warn("not certified", "error", err)
		return nil, err
	}
	log.Info("certified", "not_after", response.GetValidUntil().AsTime())
	return response, nil
}

func (s *Service) certify(ctx context.Context, request *pb.CertifyRequest) (*pb.CertifyResponse, error) {
	ca := s.ca.Load()
	if ca == nil {
		return nil, status.Error(codes.Unavailable, "the issuer is not loaded")
	}
	name, token := request.GetIdentity(), string(request.GetToken())
	if name == "" {
		return nil, status.Error(codes.InvalidArgument, "identity is missing")
	}
	if token == "" {
		return nil, status.Error(codes.InvalidArgument, "token is missing")
	}
	csr, err := parseCSR(request.GetCertificateSigningRequest())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := checkCSR(csr, name); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	account, err := s.Reviewer.Review(ctx, token)
	switch {
	case errors.Is(err, ErrNotAuthenticated):
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, ErrMalformed):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	}
	if own := s.Name(account); own != name {
		return nil, status.Errorf(codes.FailedPrecondition, "the token's identity is %s, not %s", own, name)
	}
	chain, notAfter, err := s.issue(ca, name, csr)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &pb.CertifyResponse{
		LeafCertificate:          chain[0],
		IntermediateCertificates: chain[1:],
		ValidUntil:               timestamppb.New(notAfter),
	}, nil
}

func (s *Service) issue(ca *CA, name string, csr *x509.CertificateRequest) ([][]byte, time.Time, error) {
	lifetime, skew := s.Lifetime, s.Skew
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if skew == 0 {
		skew = DefaultSkew
	}
	return ca.Issue(name, csr.PublicKey, time.Now(), lifetime, skew)
}

// parseCSR reads a request in DER and lets its maker prove that the key is
// theirs. Keys other than I-01's are refused here, because every peer would
// refuse the leaf.
func parseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) == 0 {
		return nil, errors.New("certificate signing request is missing")
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate signing request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check the certificate signing request: %w", err)
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("read the certificate signing request: the key is not ECDSA P-256")
	}
	return csr, nil
}

// checkCSR allows nothing in a request but the one name.
func checkCSR(csr *x509.CertificateRequest, name string) error {
	if len(csr.DNSNames) != 1 || csr.DNSNames[0] != name {
		return fmt.Errorf("certificate signing request must name exactly %s, names %q", name, csr.DNSNames)
	}
	if n := len(csr.EmailAddresses) + len(csr.IPAddresses) + len(csr.URIs); n > 0 {
		return fmt.Errorf("certificate signing request has %d names that are not DNS names", n)
	}
	if cn := csr.Subject.CommonName; cn != "" && cn != name {
		return fmt.Errorf("certificate signing request has common name %s, not %s", cn, name)
	}
	return nil
}
