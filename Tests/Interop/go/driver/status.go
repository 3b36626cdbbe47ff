package main

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	martlet "interop/martletv1"
)

const errorDomain = "martlet.v1"

// details is what the status of a failed call holds; members are nil where it holds nothing of the kind.
type details struct {
	info  *errdetails.ErrorInfo
	retry *errdetails.RetryInfo
	call  *martlet.CallStatus
}

func detailsOf(failed *status.Status) (found details) {
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.info = detail
		case *errdetails.RetryInfo:
			found.retry = detail
		case *martlet.CallStatus:
			found.call = detail
		}
	}
	return found
}

// codeName returns the name of a code as the specification of gRPC writes it.
func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var name strings.Builder
	for index, letter := range code.String() {
		if index > 0 && letter >= 'A' && letter <= 'Z' && code != codes.OK {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

// checkEnd holds the end of a call, an error or nil, to the status that a step expects.
func checkEnd(expected map[string]any, failure error) error {
	ended, code := status.Convert(failure), "OK"
	if expected != nil {
		code = expected["code"].(string)
	}
	if codeName(ended.Code()) != code {
		return fmt.Errorf("the call ended with %s, not with %s: %s", codeName(ended.Code()), code, ended.Message())
	}
	reason, isOurs := expected["reason"]
	if !isOurs {
		return nil
	}
	retryable, _ := expected["retryable"].(bool)
	found := detailsOf(ended)
	if found.info == nil || found.info.Reason != reason || found.info.Domain != errorDomain {
		return fmt.Errorf("the ErrorInfo is not of %s: %v", reason, found.info)
	}
	if found.call == nil || found.call.Code != uint32(ended.Code()) || found.call.Reason != reason ||
		found.call.Retryable != retryable {
		return fmt.Errorf("the CallStatus is not of %s: %v", reason, found.call)
	}
	if (found.retry != nil) != retryable {
		return fmt.Errorf("retryable is %t, and the RetryInfo is %v", retryable, found.retry)
	}
	if retryable && found.retry.RetryDelay.AsDuration() <= 0 {
		return errors.New("the RetryInfo has no delay")
	}
	if pattern, hasDetails := expected["details"]; hasDetails {
		value, err := toJSON(found.call)
		if err != nil {
			return err
		}
		return match(pattern, value, "")
	}
	return nil
}
