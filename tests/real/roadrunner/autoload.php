<?php

// Stands in for RoadRunner and its PHP packages, which Debian does not have: `php worker.php` serves HTTP by itself then, one
// request at a time, at 127.0.0.1:$STAND_IN_PORT. It shows what worker.php does with requests, not what RoadRunner does.
// PSR-7 is the real one (Debian: php-nyholm-psr7).

declare(strict_types=1);

namespace Spiral\RoadRunner {
    final class Worker
    {
        public static function create(): self
        {
            return new self();
        }
    }
}

namespace Spiral\RoadRunner\Http {
    use Nyholm\Psr7\ServerRequest;
    use Psr\Http\Message\ResponseInterface;
    use Psr\Http\Message\ServerRequestInterface;

    final class PSR7Worker
    {
        /** @var resource */
        private $listener;
        /** @var array<int, resource> */
        private array $connections = [];
        /** @var array<int, string> what has come and is not a whole request yet */
        private array $received = [];
        private int $current = 0;

        public function __construct(mixed ...$factories)
        {
            $address = 'tcp://127.0.0.1:' . getenv('STAND_IN_PORT');
            $context = stream_context_create(['socket' => ['backlog' => 511]]);
            $flags = STREAM_SERVER_BIND | STREAM_SERVER_LISTEN;
            $this->listener = stream_socket_server($address, $code, $text, $flags, $context) ?: throw new \Exception($text);
        }

        public function waitRequest(): ?ServerRequestInterface
        {
            while (true) {
                foreach (array_keys($this->received) as $id) {
                    if ($request = $this->take($id)) {
                        $this->current = $id;
                        return $request;
                    }
                }
                $ready = [$this->listener, ...$this->connections];
                $none = null;
                stream_select($ready, $none, $none, null);
                foreach ($ready as $stream) {
                    if ($stream === $this->listener) {
                        $stream = stream_socket_accept($stream);
                        $this->connections[(int) $stream] = $stream;
                        $this->received[(int) $stream] = '';
                        continue;
                    }
                    $piece = fread($stream, 65536);
                    if ($piece === '' || $piece === false) {
                        unset($this->connections[(int) $stream], $this->received[(int) $stream]);
                        fclose($stream);
                        continue;
                    }
                    $this->received[(int) $stream] .= $piece;
                }
            }
        }

        public function respond(ResponseInterface $response): void
        {
            $body = (string) $response->getBody();
            $head = "HTTP/1.1 {$response->getStatusCode()} {$response->getReasonPhrase()}\r\n";
            foreach ($response->getHeaders() as $name => $values) {
                $head .= "$name: " . implode(', ', $values) . "\r\n";
            }
            if ($response->getStatusCode() !== 204) {
                $head .= 'Content-Length: ' . strlen($body) . "\r\n";
            }
            fwrite($this->connections[$this->current], "$head\r\n$body");
        }

        private function take(int $id): ?ServerRequestInterface
        {
            $received = $this->received[$id];
            $end = strpos($received, "\r\n\r\n");
            if ($end === false) {
                return null;
            }
            $lines = explode("\r\n", substr($received, 0, $end));
            [$method, $target] = explode(' ', array_shift($lines));
            $headers = [];
            foreach ($lines as $line) {
                [$name, $value] = explode(':', $line, 2);
                $headers[strtolower($name)][] = trim($value);
            }
            $length = (int) ($headers['content-length'][0] ?? 0);
            if (strlen($received) < $end + 4 + $length) {
                return null;
            }
            $this->received[$id] = substr($received, $end + 4 + $length);
            $uri = "http://{$headers['host'][0]}$target";
            return new ServerRequest($method, $uri, $headers, substr($received, $end + 4, $length));
        }
    }
}

namespace {
    require 'Nyholm/Psr7/autoload.php';
}
