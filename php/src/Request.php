<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * One request of ws2api, taken apart: what it is about, and whom.
 *
 * `kind` is `connect`, `call`, `result`, `error`, `send`, `resulterror` or `disconnect`, or the first part of a path of your own.
 * `names` are the parts after it, decoded.
 */
final class Request
{
    private mixed $decoded = null;

    /**
     * @param list<string> $names
     * @param array<string, string> $headers names in lower case
     */
    public function __construct(
        public readonly string $method,
        public readonly string $kind,
        public readonly array $names,
        public readonly array $headers,
        public readonly string $body,
    ) {
    }

    /**
     * @param string $target the path as it came, percent-encoded; a query is not looked at
     * @param array<string, string> $headers
     * @param string $prefix the path that `backend` has in ws2api's config, such as `/api`
     */
    public static function from(string $method, string $target, array $headers, string $body, string $prefix = ''): self
    {
        $path = explode('?', $target, 2)[0];
        if ($prefix !== '' && str_starts_with($path, "$prefix/")) {
            $path = substr($path, strlen($prefix));
        }
        // Split first, decode then; rawurldecode leaves a plus a plus.
        $parts = array_map(rawurldecode(...), explode('/', ltrim($path, '/')));
        return new self($method, $parts[0], array_slice($parts, 1), array_change_key_case($headers), $body);
    }

    public function header(string $name): ?string
    {
        return $this->headers[strtolower($name)] ?? null;
    }

    /** Empty for `connect` and `disconnect`. */
    public function action(): string
    {
        return $this->hasAction() ? $this->names[0] ?? '' : '';
    }

    /** From `X-Client-Id`; without it, from where this kind of request has it in its path or body. */
    public function clientId(): string
    {
        $named = $this->header('X-Client-Id');
        return match (true) {
            $named !== null => rawurldecode($named),
            $this->kind === 'connect' => is_string($id = json_decode($this->body)) ? $id : '',
            $this->kind === 'disconnect' => (string) ($this->payload()['clientId'] ?? ''),
            default => $this->names[$this->hasAction() ? 1 : 0] ?? '',
        };
    }

    public function messageId(): string
    {
        return $this->hasAction() ? $this->names[2] ?? '' : '';
    }

    /** Different for every connection that ever was; its first 8 digits for every start of every node, which an upgrade is not. */
    public function connectionId(): string
    {
        return $this->header('X-Connection-Id') ?? '';
    }

    /** Such as `ocpp1.6`; null if none was negotiated. */
    public function subprotocol(): ?string
    {
        return $this->header('X-Subprotocol');
    }

    /** The client's address. */
    public function address(): string
    {
        return $this->header('X-Forwarded-For') ?? '';
    }

    /** The body, decoded: arrays for objects. Empty if it is neither object nor array. @return array<mixed> */
    public function payload(): array
    {
        return $this->decoded ??= Json::members($this->body);
    }

    /** The body, the client's bytes. */
    public function raw(): Raw
    {
        return new Raw($this->body);
    }

    /** With this, the answer to a Call that is deferred is given later, by whatever process. */
    public function ticket(): Ticket
    {
        return new Ticket($this->action(), $this->clientId(), $this->messageId(), $this->connectionId());
    }

    private function hasAction(): bool
    {
        return in_array($this->kind, ['call', 'result', 'error', 'send', 'resulterror'], true);
    }
}
