<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * Thrown while a client's Call is handled: the client gets it as its CallError.
 *
 *     throw CallError::propertyConstraintViolation('connectorId is 1 or 2', ['connectorId' => 3]);
 */
final class CallError extends \RuntimeException
{
    /**
     * @param ErrorCode|string $errorCode if your own: 1 to 50 characters, more do not reach the client
     * @param array<mixed>|object $details
     */
    public function __construct(
        public readonly ErrorCode|string $errorCode,
        public readonly string $description = '',
        public readonly array|object $details = [],
        ?\Throwable $previous = null,
    ) {
        parent::__construct($description, 0, $previous);
        if (is_string($errorCode) && !preg_match('/^.{1,50}$/su', $errorCode)) {
            throw new \InvalidArgumentException("a code has 1 to 50 characters, not '$errorCode'");
        }
    }

    /**
     * One for each of {@see ErrorCode}, in lower camel case: `CallError::securityError('not yours')`.
     *
     * @param array{0?: string, 1?: array<mixed>|object} $arguments description and details
     */
    public static function __callStatic(string $name, array $arguments): self
    {
        $code = ErrorCode::tryFrom(ucfirst($name)) ?? throw new \BadMethodCallException("OCPP has no code $name");
        return new self($code, ...$arguments);
    }

    public function code(?string $subprotocol): string
    {
        return $this->errorCode instanceof ErrorCode ? $this->errorCode->spelled($subprotocol) : $this->errorCode;
    }

    /** The body that ws2api makes a CallError of. */
    public function body(?string $subprotocol): string
    {
        $details = (array) $this->details === [] ? new \stdClass() : $this->details;
        $code = $this->code($subprotocol);
        return Json::payload(['code' => $code, 'description' => $this->description, 'details' => $details]);
    }
}
