<?php

declare(strict_types=1);

namespace Ws2Api;

/** Takes a request to the ingress and brings its answer. {@see Connection} does, with nothing but PHP's own streams. */
interface Transport
{
    /**
     * @param string $path and query, percent-encoded
     * @param array<string, string> $headers
     * @param int $timeout seconds for the whole of it
     * @throws IngressUnreachable
     */
    public function request(string $method, string $path, array $headers, string $body, int $timeout): Response;
}
