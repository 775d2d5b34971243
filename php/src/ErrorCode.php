<?php

declare(strict_types=1);

namespace Ws2Api;

/** OCPP's error codes as OCPP 2 spells them (OCPP-J 2.0.1, 4.3; 1.6, 4.2.3). */
enum ErrorCode: string
{
    case FormatViolation = 'FormatViolation';
    case GenericError = 'GenericError';
    case InternalError = 'InternalError';
    case MessageTypeNotSupported = 'MessageTypeNotSupported';
    case NotImplemented = 'NotImplemented';
    case NotSupported = 'NotSupported';
    case OccurrenceConstraintViolation = 'OccurrenceConstraintViolation';
    case PropertyConstraintViolation = 'PropertyConstraintViolation';
    case ProtocolError = 'ProtocolError';
    case RpcFrameworkError = 'RpcFrameworkError';
    case SecurityError = 'SecurityError';
    case TypeConstraintViolation = 'TypeConstraintViolation';

    /** As this version of OCPP spells it: two names differ in 1.6, and two are not there. */
    public function spelled(?string $subprotocol): string
    {
        return $subprotocol !== 'ocpp1.6' ? $this->value : match ($this) {
            self::FormatViolation => 'FormationViolation',
            self::OccurrenceConstraintViolation => 'OccurenceConstraintViolation',
            self::MessageTypeNotSupported, self::RpcFrameworkError => 'GenericError',
            default => $this->value,
        };
    }
}
